"""The programs that the bugs are planted in, as they are."""

from tests.zoo.bases import BASES
from tests.zoo.case import healthy

for base in BASES:
    healthy(base, name=f"plain_{base.replace('-', '_')}", what=f"{base}, unchanged.")
