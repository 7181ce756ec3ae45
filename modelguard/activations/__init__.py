"""Running two models on fixed texts, a layer at a time, and comparing what happens inside."""
