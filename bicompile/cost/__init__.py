"""What a compiled program costs, counted from the instructions that one run executes.

Instruction counts are exact. Cycles are modelled: `inorder` for cortex-a53 and cortex-a55, `mca`
for cortex-a72 and neoverse-n1. No hardware stands behind them.
"""
