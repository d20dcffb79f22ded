"""JupyterLab in a real browser: the notebooks as a person runs them, and the README's pictures of that."""
