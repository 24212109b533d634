"""Sources of images, and the datamodule that makes batches of pairs from them."""
