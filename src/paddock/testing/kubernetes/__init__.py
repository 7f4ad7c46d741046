"""A small Kubernetes for tests: an API server that keeps the rules of the real one, and a kubelet that runs pods as processes."""
