import numpy as np

from models.stats.batched_logistic import stratified_random_folds


def test_a_class_with_few_rows_is_held_out_by_any_fold() -> None:
    labels = np.zeros(40, np.bool_)
    labels[[3, 17]] = True
    folds = [stratified_random_folds(labels, 5, repeat, seed=1) for repeat in range(40)]
    assert {int(one[3]) for one in folds} == {int(one[17]) for one in folds} == set(range(5))
    for one in folds:
        assert one[3] != one[17] and np.bincount(one[~labels], minlength=5).max() <= 8
