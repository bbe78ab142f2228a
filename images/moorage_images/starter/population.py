"""The United Nations' population figures and projections, as `bokeh-sampledata` ships them: 1950 to 2100, by age and sex."""

from collections.abc import Sequence

import pandas as pd

COLUMNS = {"Location": "str", "Year": "int64", "Sex": "str", "AgeGrpStart": "int64", "Value": "float64"}


def periods(first: int, last: int, count: int) -> list[tuple[int, int]]:
    """The years from `first` to `last`, cut into at most `count` spans that a worker reads each."""
    years = list(range(first, last + 1, 5))  # the figures come every five years
    step = -(-len(years) // count)
    spans = [years[start : start + step] for start in range(0, len(years), step)]
    return [(span[0], span[-1]) for span in spans]


def read(period: tuple[int, int]) -> pd.DataFrame:
    """The figures of one span of years. Runs on a worker, which has the file in its own environment."""
    from bokeh_sampledata import package_path

    table = pd.read_csv(package_path("population.csv.gz"), usecols=list(COLUMNS))
    return table[table["Year"].between(*period)].astype(COLUMNS)[list(COLUMNS)]


def empty() -> pd.DataFrame:
    """A table without rows, that tells Dask the columns and their types."""
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})


def line_up(table: pd.DataFrame, places: Sequence[str]) -> pd.DataFrame:
    """One column for each place, one row for each year."""
    return table.loc[table["Location"].isin(places)].pivot(index="Year", columns="Location", values="old")[list(places)]
