"""How fast standardize and mix are, and how much memory they take, beside a program of `datasets`."""
