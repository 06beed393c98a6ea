"""How fast the estimators are, against pyroomacoustics, plain NumPy and the matrix products that they cannot avoid."""
