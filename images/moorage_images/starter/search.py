"""How well does a support vector machine read handwritten digits? One setting at a time, so that workers share them."""

import math
import random
import time

Setting = dict[str, float]  # C: what a misread digit costs in training; gamma: how local a single digit's influence is
Result = dict[str, float]  # a setting, with accuracy (mean over the folds, 0 to 1) and seconds


def draw(count: int, seed: int) -> list[Setting]:
    """`count` random settings, evenly spread over powers of ten."""
    chance = random.Random(seed)
    return [{"C": 10 ** chance.uniform(-2, 3), "gamma": 10 ** chance.uniform(-5, -1)} for _ in range(count)]


def score(setting: Setting, folds: int) -> Result:
    """Cross-validates one setting on scikit-learn's 1797 digits."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import cross_val_score
    from sklearn.svm import SVC

    started = time.perf_counter()
    images, labels = load_digits(return_X_y=True)
    accuracy = cross_val_score(SVC(**setting), images, labels, cv=folds).mean()
    return {**setting, "accuracy": float(accuracy), "seconds": time.perf_counter() - started}


def words(result: Result) -> str:
    exponents = f"C = 10^{math.log10(result['C']):.1f}, gamma = 10^{math.log10(result['gamma']):.1f}"
    return f"{result['accuracy']:.1%} with {exponents}"
