"""The models that the dataset is for: visual states, director, generator, film."""
