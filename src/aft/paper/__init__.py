"""The paper's tables: its figures, what each table is made of, which runs fill it, and which of its claims held."""
