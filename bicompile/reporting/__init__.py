"""`bicompile report`: one page on an artifact, and the same figures for programs.

measured → charts, ir → page: what was counted and modelled, how it is drawn, and the
folder with report.html and report.json.
"""
