"""What is kept is what was run, and goes on where it was."""

import numpy as np

from benchmarks.kept_trials import CHUNK, kept_trials


def test_a_stopped_run_goes_on_and_gives_the_same(tmp_path):
    ran = []

    def run(first, end):
        ran.append((first, end))
        index = np.arange(first, end, dtype=np.float64)
        return [{"a": index, **({"b": -index} if first == 0 else {})}, {"c": np.stack([index, index], axis=1)}]

    whole = kept_trials(None, "case", 2 * CHUNK + 7, run)
    kept_trials(tmp_path, "case", CHUNK, run)
    ran.clear()
    resumed = kept_trials(tmp_path, "case", 2 * CHUNK + 7, run)
    assert ran == [(CHUNK, 2 * CHUNK), (2 * CHUNK, 2 * CHUNK + 7)]
    again = kept_trials(tmp_path, "case", 2 * CHUNK + 7, run)
    assert len(ran) == 2
    for one in (resumed, again):
        for mine, theirs in zip(one, whole, strict=True):
            assert mine.keys() == theirs.keys()
            for name, values in mine.items():
                np.testing.assert_array_equal(values, theirs[name])
    np.testing.assert_array_equal(whole[0]["a"], np.arange(2 * CHUNK + 7))
    assert np.isnan(whole[0]["b"][CHUNK:]).all(), "a method that did not run in a chunk has no value there"


def test_other_cases_have_their_own_files(tmp_path):
    one = kept_trials(tmp_path, "one", 3, lambda first, end: [{"a": np.zeros(end - first)}])
    two = kept_trials(tmp_path, "two", 3, lambda first, end: [{"a": np.ones(end - first)}])
    assert one[0]["a"].sum() == 0 and two[0]["a"].sum() == 3
