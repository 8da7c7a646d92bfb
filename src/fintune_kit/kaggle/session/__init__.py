"""What runs on Kaggle's machine: the two generated cells of a kernel call this floor before and after the notebook."""
