"""SRS of TS 38.211 against its formulas written out term by term, and against what the sequences are made for."""

from __future__ import annotations

import cmath
import itertools
import math

import numpy as np
import pytest

from hil.errors import ParamError
from hil.formats.srs import (
    Srs,
    base_sequence,
    fft_bins,
    first_subcarrier,
    gold_sequence,
    group_and_sequence,
    is_srs_slot,
    slot_samples,
    srs_symbol,
    subcarrier_offsets_hz,
    symbol_start,
)
from hil.formats.srs_tables import BANDWIDTH, PHI
from hil.params import convert_params

LENGTHS = (36, 48, 72, 96, 204, 408, 816, 1632)


def largest_prime_below(n: int) -> int:
    return max(p for p in range(n - 40, n) if p > 1 and all(p % d for d in range(2, p)))


def zadoff_chu_by_the_formula(length: int, u: int, v: int) -> list[complex]:
    prime = largest_prime_below(length)
    qbar = prime * (u + 1) / 31
    q = math.floor(qbar + 0.5) + v * (-1) ** math.floor(2 * qbar)
    return [cmath.exp(-1j * math.pi * q * (n % prime) * (n % prime + 1) / prime) for n in range(length)]


@pytest.mark.parametrize("length", (36, 72, 408, 816))
@pytest.mark.parametrize(("u", "v"), [(0, 0), (7, 0), (29, 0), (3, 1), (16, 1)])
def test_long_sequences_are_the_formula(length: int, u: int, v: int) -> None:
    if v and length < 72:
        with pytest.raises(ParamError, match="v 0"):
            base_sequence(length, u, v)
        return
    # atol: the straightforward exponent has lost digits at q m (m + 1) ~ 1e8 half turns
    np.testing.assert_allclose(base_sequence(length, u, v), zadoff_chu_by_the_formula(length, u, v), rtol=0, atol=2e-7)


def test_length_30_is_the_formula() -> None:
    want = [cmath.exp(-1j * math.pi * 5 * (n + 1) * (n + 2) / 31) for n in range(30)]
    np.testing.assert_allclose(base_sequence(30, 4, 0), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", (12, 24))
def test_short_sequences_are_qpsk_and_tell_groups_apart(length: int) -> None:
    rows = np.stack([base_sequence(length, u, 0) for u in range(30)])
    assert set(np.unique(PHI[length])) == {-3, -1, 1, 3}
    np.testing.assert_allclose(np.abs(rows), 1, rtol=0, atol=1e-15)
    # no two rows are the same up to a cyclic shift in delay (a ramp of phase): a slip in the table would show here
    like = np.abs(np.fft.ifft(rows[:, None] * rows.conj(), axis=-1)).max(axis=-1)
    assert like[~np.eye(30, dtype=bool)].max() < 0.9


def test_a_length_that_no_srs_has_is_refused() -> None:
    with pytest.raises(ParamError, match="12, 24, 30 or from 36"):
        base_sequence(18, 0, 0)


@pytest.mark.parametrize("length", LENGTHS)
def test_constant_amplitude_and_zero_autocorrelation(length: int) -> None:
    prime = largest_prime_below(length)
    x = base_sequence(length, 11, 0)
    np.testing.assert_allclose(np.abs(x), 1, rtol=0, atol=1e-12)
    spectrum = np.abs(np.fft.fft(x[:prime])) ** 2  # flat: the autocorrelation is zero at all lags but 0
    np.testing.assert_allclose(spectrum, prime, rtol=1e-9)


@pytest.mark.parametrize(("comb", "n_ports"), [(2, 2), (2, 4), (4, 2), (4, 4)])
def test_ports_on_the_same_subcarriers_are_orthogonal(comb: int, n_ports: int) -> None:
    srs = convert_params(Srs, {"comb": comb, "n_ports": n_ports}, "test")
    ports = [srs_symbol(srs, 0, 0, 0, port) for port in range(n_ports)]
    for a in range(n_ports):
        np.testing.assert_array_equal(ports[a].subcarrier, ports[0].subcarrier)
        for b in range(n_ports):
            inner = abs(np.vdot(ports[a].value, ports[b].value)) / srs.length
            assert inner == pytest.approx(1.0 if a == b else 0.0, abs=1e-12)


def test_four_ports_with_a_large_shift_use_two_combs() -> None:
    srs = convert_params(Srs, {"comb": 4, "n_ports": 4, "cyclic_shift": 6, "comb_offset": 3}, "test")
    assert [int(srs_symbol(srs, 0, 0, 0, p).subcarrier[0]) % 4 for p in range(4)] == [3, 1, 3, 1]


def gold_by_the_recursion(c_init: int, n: int) -> list[int]:
    total = 1600 + n + 31
    x1, x2 = [0] * total, [0] * total
    x1[0] = 1
    for i in range(31):
        x2[i] = (c_init >> i) & 1
    for i in range(total - 31):
        x1[i + 31] = (x1[i + 3] + x1[i]) % 2
        x2[i + 31] = (x2[i + 3] + x2[i + 2] + x2[i + 1] + x2[i]) % 2
    return [(x1[i + 1600] + x2[i + 1600]) % 2 for i in range(n)]


@pytest.mark.parametrize("c_init", (0, 1, 77, 1023))
def test_gold_sequence_is_the_recursion(c_init: int) -> None:
    assert gold_sequence(c_init, 400).tolist() == gold_by_the_recursion(c_init, 400)


def test_hopping_of_groups_and_sequences() -> None:
    bits = gold_by_the_recursion(77, 8 * 14 * 20)
    group = convert_params(Srs, {"hopping": "group", "sequence_id": 77}, "test")
    sequence = convert_params(Srs, {"hopping": "sequence", "sequence_id": 77}, "test")
    for slot, symbol in ((0, 13), (7, 12), (19, 13)):
        place = 8 * (14 * slot + symbol)
        f_gh = sum(bits[place + m] * 2**m for m in range(8)) % 30
        assert group_and_sequence(group, slot, symbol) == ((f_gh + 77) % 30, 0)
        assert group_and_sequence(sequence, slot, symbol) == (77 % 30, bits[14 * slot + symbol])
    short = convert_params(Srs, {"hopping": "sequence", "sequence_id": 77, "b_srs": 3}, "test")
    assert {group_and_sequence(short, slot, 13)[1] for slot in range(20)} == {0}


def test_bandwidths_divide_one_another() -> None:
    for row in BANDWIDTH:
        for (wide, _), (narrow, n) in itertools.pairwise(row):
            assert wide == narrow * n
    assert {BANDWIDTH[c][0][0] for c in (61, 62, 63)} == {272}


@pytest.mark.parametrize("c_srs", (7, 13, 25, 41, 55, 62, 63))
@pytest.mark.parametrize("b_srs", (1, 2, 3))
def test_frequency_hopping_sounds_the_whole_band_once_a_cycle(c_srs: int, b_srs: int) -> None:
    srs = convert_params(Srs, {"c_srs": c_srs, "b_srs": b_srs, "b_hop": 0, "n_shift": 1}, "test")
    wide, narrow = BANDWIDTH[c_srs][0][0], BANDWIDTH[c_srs][b_srs][0]
    n = wide // narrow
    firsts = [first_subcarrier(srs, count) for count in range(n)]
    assert sorted(firsts) == [12 * (1 + narrow * i) for i in range(n)]
    assert [int(srs_symbol(srs, *divmod(160 * i, 20)).subcarrier[0]) for i in range(n)] == firsts


def test_no_hopping_stays_where_n_rrc_says() -> None:
    srs = convert_params(Srs, {"c_srs": 63, "b_srs": 1, "b_hop": 1, "n_rrc": 9}, "test")
    assert {first_subcarrier(srs, count) for count in range(5)} == {12 * 16 * (4 * 9 // 16)}


def test_the_carrier_in_bins_and_hertz() -> None:
    srs = Srs()
    assert fft_bins(srs)[0] == 4096 - 6 * 273
    assert fft_bins(srs)[6 * 273] == 0
    offset = subcarrier_offsets_hz(srs)
    np.testing.assert_array_equal(np.fft.fftfreq(4096, 1 / srs.sample_rate_hz)[fft_bins(srs)], offset)


@pytest.mark.parametrize(("scs_khz", "n_fft", "n_rb"), [(15, 2048, 106), (30, 4096, 273), (60, 2048, 135)])
def test_symbols_fill_a_subframe(scs_khz: int, n_fft: int, n_rb: int) -> None:
    srs = convert_params(Srs, {"scs_khz": scs_khz, "n_fft": n_fft, "n_rb": n_rb, "c_srs": 13}, "test")
    per_ms = scs_khz // 15
    assert sum(slot_samples(srs, i) for i in range(per_ms)) == n_fft * scs_khz
    # the first prefix of each half millisecond is longer by 16 kappa T_c = 0.52 us
    assert symbol_start(srs, 0, 0) == round((144 / 2048 * n_fft) + 16 / 30.72e6 * n_fft * scs_khz * 1e3)
    assert symbol_start(srs, 0, 1) - symbol_start(srs, 0, 0) == n_fft + 144 * n_fft // 2048


def test_occasions_come_with_the_period() -> None:
    srs = convert_params(Srs, {"period_slots": 40, "offset_slots": 27}, "test")
    assert [f * 20 + s for f in range(8) for s in range(20) if is_srs_slot(srs, f, s)] == [27, 67, 107, 147]


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"comb": 3}, "comb"),
        ({"comb": 2, "comb_offset": 2}, "comb_offset must be below 2"),
        ({"cyclic_shift": 8}, "cyclic_shift must be below 8"),
        ({"n_symbols": 2}, "2 symbols from 13 do not fit"),
        ({"n_shift": 2}, "does not fit 273"),
        ({"n_fft": 2048}, "room for 12 x 273"),
        ({"period_slots": 3}, "period_slots"),
        ({"repetition": 2}, "repetition"),
        ({"offset_slots": 160}, "below period_slots"),
    ],
)
def test_resources_that_cannot_be_are_refused(wrong: dict[str, int], match: str) -> None:
    with pytest.raises(ParamError, match=match):
        convert_params(Srs, wrong, "test")
