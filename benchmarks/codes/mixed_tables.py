"""Mixed tables, made and real, and how well rows that were made resemble real ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_wine
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from benchmarks.codes import peers
from isthmus import TableSampler


def adult_like(n_rows: int, seed: int) -> pd.DataFrame:
    """A table like a census: whole numbers, a heavy-tailed column of mostly zeros, categories, and a binary answer."""
    draw = np.random.default_rng(seed)
    age = np.clip(draw.gamma(6.0, 6.5, n_rows) + 16, 17, 90).astype(int)
    sex = np.where(draw.random(n_rows) < 0.67, "male", "female")
    years = np.clip(np.round(draw.normal(10.0, 2.6, n_rows)), 1, 16).astype(int)
    names = np.array(["none", "primary", "secondary", "college", "bachelor", "master"])
    education = names[np.searchsorted([4, 8, 11, 13, 15], years)]
    single = 1 / (1 + np.exp((age - 30) / 5))
    uniform = draw.random(n_rows)
    marital = np.select([uniform < single, uniform < single + 0.18], ["single", "divorced"], "married")
    skill = (years - 10) / 3 + draw.normal(size=n_rows)
    jobs = np.array(["labour", "service", "sales", "office", "craft", "manager", "professional"])
    job = jobs[np.searchsorted([-1.6, -0.9, -0.3, 0.3, 0.9, 1.6], skill)]
    job = np.where((sex == "male") & (job == "office") & (draw.random(n_rows) < 0.6), "craft", job)
    own = draw.random(n_rows) < 0.05 + 0.1 * (age > 45)
    work = np.where(own, "self-employed", np.where(draw.random(n_rows) < 0.15, "public", "private"))
    hours = np.clip(np.round(40 + 3 * (job == "manager") + 6 * own + draw.laplace(0, 5, n_rows)), 5, 99).astype(int)
    hours = np.where(draw.random(n_rows) < 0.45, 40, hours)
    logit = -8.2 + 0.045 * age + 0.35 * years + 1.6 * (marital == "married") + 0.03 * hours + 0.5 * (job == "manager")
    logit = logit + 0.4 * (sex == "male") - 0.0006 * (age - 50) ** 2
    rich = draw.random(n_rows) < 1 / (1 + np.exp(-logit))
    gain = np.where(draw.random(n_rows) < 0.05 + 0.15 * rich, np.round(np.exp(draw.normal(8, 1, n_rows))), 0).astype(
        int
    )
    income = np.where(rich, ">50K", "<=50K")
    return pd.DataFrame(
        {
            "age": age,
            "work": work,
            "education": education,
            "years": years,
            "marital": marital,
            "job": job,
            "sex": sex,
            "gain": gain,
            "hours": hours,
            "income": income,
        }
    )


@dataclass(frozen=True)
class Likeness:
    """How well made rows resemble real ones.

    Attributes
    ----------
    discriminator
        Area under the ROC curve of boosted trees that tell made from real rows, by cross-validation; 0.5 is best.
    marginals
        Largest Kolmogorov–Smirnov or total-variation distance of a column.
    correlations
        Largest difference of two numeric columns' correlations.
    trained_on_made, trained_on_real
        Area under the ROC curve on real test rows of boosted trees that predict the target.
    nearest
        Median distance of made rows to the nearest training row, over that of real test rows; far below 1 is copying.
    """

    discriminator: float
    marginals: float
    correlations: float
    trained_on_made: float
    trained_on_real: float
    nearest: float


def likeness(train: pd.DataFrame, test: pd.DataFrame, made: pd.DataFrame, target: str) -> Likeness:
    """Compare made rows with held-out real ones, and with the rows they were learned from."""
    n = min(len(test), len(made))
    return Likeness(
        discriminator(test.iloc[:n], made.iloc[:n]),
        max(_distance(test[name], made[name]) for name in test),
        float(np.abs(test.corr(numeric_only=True) - made.corr(numeric_only=True)).max().max()),
        _predicting(made, test, target),
        _predicting(train, test, target),
        _nearest(train, test.iloc[:n], made.iloc[:n]),
    )


def _trees(frame: pd.DataFrame) -> Pipeline:
    words = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    codes = make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2), words),
        remainder="passthrough",
    )
    return make_pipeline(codes, HistGradientBoostingClassifier(max_iter=100, random_state=0))


def discriminator(real: pd.DataFrame, made: pd.DataFrame) -> float:
    """Area under the ROC curve of trees that tell made rows from real ones."""
    both = pd.concat([real, made[list(real)]], ignore_index=True)
    answer = np.repeat([0, 1], [len(real), len(made)])
    scores = cross_val_predict(_trees(both), both, answer, cv=3, method="predict_proba")[:, 1]
    return float(roc_auc_score(answer, scores))


def _predicting(rows: pd.DataFrame, test: pd.DataFrame, target: str) -> float:
    if rows[target].nunique() < 2:
        return 0.5
    model = _trees(rows.drop(columns=target)).fit(rows.drop(columns=target), rows[target].astype(str))
    scores = model.predict_proba(test.drop(columns=target))[:, 1]
    return float(roc_auc_score(test[target].astype(str) == model.classes_[1], scores))


def _distance(real: pd.Series, made: pd.Series) -> float:
    if pd.api.types.is_numeric_dtype(real):
        grid = np.unique(np.concatenate([real, made]))
        steps = [np.searchsorted(np.sort(part), grid, side="right") / len(part) for part in (real, made)]
        return float(np.abs(steps[0] - steps[1]).max())
    one, other = real.astype(str), made.astype(str)
    levels = sorted(set(one) | set(other))
    return sum(abs(float((one == level).mean()) - float((other == level).mean())) for level in levels) / 2


def _nearest(train: pd.DataFrame, test: pd.DataFrame, made: pd.DataFrame) -> float:
    numbers = list(train.select_dtypes("number"))
    scale = train[numbers].std().replace(0, 1)

    def encoded(frame: pd.DataFrame) -> np.ndarray:
        words = frame.drop(columns=numbers)
        flags = [np.asarray(words[name].astype(str) == level) for name in words for level in train[name].unique()]
        return np.column_stack([(frame[numbers] / scale).to_numpy(float), *(flag.astype(float) for flag in flags)])

    known = encoded(train)
    squares = np.square(known).sum(axis=1)

    def typical(frame: pd.DataFrame) -> float:
        rows = encoded(frame)
        away = np.square(rows).sum(axis=1)[:, None] + squares - 2 * rows @ known.T
        return float(np.median(np.sqrt(np.maximum(away.min(axis=1), 0))))

    return typical(made) / max(typical(test), 1e-9)


def table_lines(seed: int) -> Iterator[tuple[str, float]]:
    """Likeness of the rows of `TableSampler`, and of a Gaussian copula, on the made census table and a real one."""
    tables = {"made census": (adult_like(6_000, seed), "income"), "wine and class": (_with_class(), "class")}
    for name, (table, target) in tables.items():
        order = np.random.default_rng(seed).permutation(len(table))
        cut = 2 * len(table) // 3
        train = table.iloc[order[:cut]].reset_index(drop=True)
        test = table.iloc[order[cut:]].reset_index(drop=True)
        made = {
            "TableSampler": TableSampler(random_state=seed).fit(train).sample(len(test), random_state=seed),
            "Gaussian copula": copula_rows(train, len(test), seed),
        }
        if peers.python() is not None:
            made |= {f"SDV's {kind}": rows for kind, rows in peers.sdv_rows(train, len(test), seed).items()}
        for kind, rows in made.items():
            found = likeness(train, test, rows, target)
            for figure, value in vars(found).items():
                yield f"{name}, {kind}: {figure.replace('_', ' ')}", value


def _with_class() -> pd.DataFrame:
    """A real table of measurements with a class of text."""
    data = load_wine(as_frame=True)
    frame: pd.DataFrame = data.frame.rename(columns={"target": "class"})
    return frame.assign(**{"class": np.where(frame["class"] == 0, "first", "other")})


def copula_rows(train: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """Rows of a Gaussian copula: normal scores with the correlations of the ranks, and the marginals of the columns.

    Categories are intervals of the normal score, by frequency, as in SDV's synthesiser (Patki et al. 2016).
    """
    draw = np.random.default_rng(seed)
    scores, back = [], {}
    for name in train:
        cells = train[name]
        if pd.api.types.is_numeric_dtype(cells):
            place = (cells.rank(method="average") - 0.5) / len(cells)
            back[name] = np.sort(cells.to_numpy())
        else:
            shares = cells.value_counts(normalize=True)
            ends = shares.cumsum()
            low = ends - shares
            place = cells.map(low) + cells.map(shares) * draw.random(len(cells))
            back[name] = np.repeat(shares.index.to_numpy(), np.maximum(1, (shares * 10_000).round().astype(int)))
        scores.append(norm.ppf(np.clip(place.to_numpy(float), 1e-6, 1 - 1e-6)))
    drawn = draw.multivariate_normal(np.zeros(len(scores)), np.corrcoef(np.array(scores)), size=n)
    made = {}
    for column, name in zip(drawn.T, train, strict=True):
        values = back[name]
        made[name] = values[np.minimum((norm.cdf(column) * len(values)).astype(int), len(values) - 1)]
    return pd.DataFrame(made)
