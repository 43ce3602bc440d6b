"""The experiments of Schaub and Hotaling (Appl. Sci. 2023, 13(18), 10286), at a size that fits.

    python -m scripts.paper run --out build/paper
    python -m scripts.paper report --out build/paper

LeNet-300-100 and LeNet-5 of many widths are trained, as they are, with batch normalisation and
dropout, and with labels in part random. Each network is a Dask task; a run that was stopped goes
on. What the table of all networks says of the paper's four claims is computed, and never assumed.
"""
