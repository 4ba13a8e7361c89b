"""The checks name the parameter, the value and the range."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from llama_cy import Ftype, GGMLType, PoolingType
from llama_cy.checks import FLOAT32_MAX, choice, each, fill, flag, integer, real, shown


class TestInteger:
    @pytest.mark.parametrize("value", [3, True, np.int8(3), np.uint64(3)])
    def test_integers(self, value: Any) -> None:
        number = integer("n", value, 1, 3)
        assert type(number) is int
        assert number == value

    @pytest.mark.parametrize("value", [0, 4, -(2**70)])
    def test_out_of_range(self, value: int) -> None:
        with pytest.raises(ValueError, match=rf"^n is {value}, which is out of range \[1, 3\]$"):
            integer("n", value, 1, 3)

    @pytest.mark.parametrize("value", [3.0, "3", None, b"3", [3], np.float32(3)])
    def test_other_types(self, value: object) -> None:
        with pytest.raises(TypeError, match=rf"^n must be an integer, not {type(value).__name__}$"):
            integer("n", value, 1, 3)

    def test_more_digits_than_python_prints(self) -> None:
        with pytest.raises(ValueError, match="an integer of 100001 bits"):
            integer("n", 1 << 100_000, 1, 3)
        assert shown(-5) == "-5"


class TestReal:
    @pytest.mark.parametrize("value", [0, 0.5, True, np.float32(0.5), FLOAT32_MAX])
    def test_numbers(self, value: Any) -> None:
        assert real("x", value, 0) == float(value)

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e39, -0.1, 10**400])
    def test_out_of_range(self, value: float) -> None:
        with pytest.raises(ValueError, match=r"^x is .*, which is out of range \[0, "):
            real("x", value, 0)

    @pytest.mark.parametrize("value", ["0.5", b"1", None, [1], 1j])
    def test_other_types(self, value: object) -> None:
        with pytest.raises(TypeError, match=rf"^x must be a number, not {type(value).__name__}$"):
            real("x", value)


class TestFlag:
    @pytest.mark.parametrize(("value", "expected"), [(True, True), (0, False), (np.True_, True), (np.int8(0), False)])
    def test_bools(self, value: object, expected: bool) -> None:
        assert flag("on", value) is expected

    @pytest.mark.parametrize("value", ["no", None, 1.0, []])
    def test_other_types(self, value: object) -> None:
        with pytest.raises(TypeError, match="on must be a bool"):
            flag("on", value)

    def test_numbers(self) -> None:
        with pytest.raises(ValueError, match="on is 2; expected True or False"):
            flag("on", 2)


class TestChoice:
    @pytest.mark.parametrize("value", ["mean", "MEAN", "Mean", PoolingType.MEAN, 1, np.int32(1)])
    def test_ways_to_say_it(self, value: object) -> None:
        assert choice("pooling", PoolingType, value) == PoolingType.MEAN

    def test_prefix_may_be_left_out(self) -> None:
        assert choice("ftype", Ftype, "q4_k_m") == choice("ftype", Ftype, "mostly_q4_k_m") == Ftype.MOSTLY_Q4_K_M

    @pytest.mark.parametrize("value", ["average", 99, -7])
    def test_unknown(self, value: object) -> None:
        with pytest.raises(ValueError, match=rf"^pooling is {value!r}; expected one of .*\bmean\b"):
            choice("pooling", PoolingType, value)

    @pytest.mark.parametrize("value", [None, 1.0, GGMLType])
    def test_other_types(self, value: object) -> None:
        with pytest.raises(TypeError, match="pooling must be a PoolingType, its value or its name"):
            choice("pooling", PoolingType, value)


@pytest.mark.parametrize("value", ["text", b"bytes", bytearray(b"b"), 3, None])
def test_each_is_no_text(value: object) -> None:
    with pytest.raises(TypeError, match=f"tokens must be an iterable, not {type(value).__name__}"):
        each("tokens", value)


def test_fill() -> None:
    defaults = {"a": 1, "b": 2}
    assert fill(defaults, {"b": 3}, "Thing") == {"a": 1, "b": 3}
    assert defaults == {"a": 1, "b": 2}
    with pytest.raises(TypeError, match=r"^Thing has no parameter 'c'; it takes a, b$"):
        fill(defaults, {"c": 1}, "Thing")
