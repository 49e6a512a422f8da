"""Imputation of mixed tables, compared with scikit-learn's imputers."""
