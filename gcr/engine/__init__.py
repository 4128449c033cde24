"""Jobs in, finished rounds out: one run, a batch, or a cluster's share of one."""
