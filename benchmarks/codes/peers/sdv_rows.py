"""Fit SDV's Gaussian copula and TVAE, each with its defaults, and draw rows.

sdv_rows.py GIVEN.parquet FOLDER N SEED
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sdv.metadata import Metadata
from sdv.single_table import GaussianCopulaSynthesizer, TVAESynthesizer

given, folder, n, seed = sys.argv[1:]
np.random.seed(int(seed))  # noqa: NPY002  # SDV draws from its global state
torch.manual_seed(int(seed))
table = pd.read_parquet(given)
kinds = {name: "numerical" if pd.api.types.is_numeric_dtype(table[name]) else "categorical" for name in table}
columns = {
    name: {"sdtype": kind} for name, kind in kinds.items()
}  # SDV's detection takes short columns for identifiers
metadata = Metadata.load_from_dict({"tables": {"table": {"columns": columns}}, "relationships": []})
for name, synthesizer in {"copula": GaussianCopulaSynthesizer, "tvae": TVAESynthesizer}.items():
    made = synthesizer(metadata)
    made.fit({"table": table})
    made.sample(num_rows=int(n))["table"].to_parquet(Path(folder) / f"{name}.parquet")
