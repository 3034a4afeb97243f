.PHONY: verify test bench
verify test bench:
	@./dev $@
