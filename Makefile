.PHONY: link
COLLECTION := .ansible/collections/ansible_collections/gpufleet/serving

link: ## make the collection's name resolve in this checkout
	@mkdir -p $(dir $(COLLECTION))
	@ln -sfn $(CURDIR) $(COLLECTION)
