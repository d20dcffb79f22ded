"""What Helm, kubectl and the Python client rely on, as assertions that hold of the sandbox and of real clusters."""
