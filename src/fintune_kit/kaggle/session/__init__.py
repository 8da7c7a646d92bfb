"""The code that runs on Kaggle's machine. The two generated cells call it before and after the notebook."""
