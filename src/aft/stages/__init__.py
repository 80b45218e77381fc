"""The stages: each module runs one unit of the plan. Stages do not import each other."""
