"""One rule a file. A rule is a pure function of the evidence that its parameters name."""
