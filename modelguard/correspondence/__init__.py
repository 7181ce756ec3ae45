"""Which tensor of one checkpoint stands for which of another: names, layouts, orders and roles."""
