"""Neural refinement: networks that end in the array functions of the estimators."""
