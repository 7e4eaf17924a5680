"""What runs before the workers: TorchServe's process, the public port, and what keeps both alive or ends them."""
