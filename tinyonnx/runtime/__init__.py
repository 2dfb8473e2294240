"""Planning and execution: graph to plan, plan to results."""
