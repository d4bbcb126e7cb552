"""Write scikit-learn's breast cancer set to breast_cancer.csv beside this file."""

from pathlib import Path

from sklearn.datasets import load_breast_cancer

bunch = load_breast_cancer(as_frame=True)
table = bunch.frame.drop(columns="target").assign(diagnosis=bunch.target_names[bunch.target])
path = Path(__file__).with_suffix(".csv")
table.to_csv(path, index=False)
print(f"wrote {path} ({len(table)} rows)")
