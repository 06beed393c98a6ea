"""Bytes of PMT as GNU Radio makes them: ``/usr/bin/python3 tests/vectors/make_pmt_gnuradio.py > pmt_gnuradio.json``."""

import json

import pmt  # type: ignore[import-not-found]
from gnuradio import gr  # type: ignore[import-not-found]

meta = pmt.dict_add(pmt.make_dict(), pmt.intern("a"), pmt.from_long(3))
meta = pmt.dict_add(meta, pmt.intern("b"), pmt.from_double(2.5))
one, two, three = (pmt.from_long(i) for i in (1, 2, 3))
cases = {
    "true": pmt.PMT_T,
    "false": pmt.PMT_F,
    "nil": pmt.PMT_NIL,
    "symbol": pmt.intern("hello"),
    "int": pmt.from_long(-5),
    "int64": pmt.from_long(2**40),
    "uint64": pmt.from_uint64(2**63 + 5),
    "double": pmt.from_double(1.5),
    "complex": pmt.from_complex(1 + 2j),
    "pair": pmt.cons(one, two),
    "list": pmt.list3(one, two, three),
    "dict": meta,
    "vector": pmt.make_vector(2, pmt.from_long(7)),
    "tuple": pmt.make_tuple(pmt.from_uint64(5), pmt.from_double(0.25)),
    "empty_dict": pmt.make_dict(),
    "pdu": pmt.cons(meta, pmt.init_c32vector(2, [1 + 2j, 3j])),
    "pdu_nil": pmt.cons(pmt.PMT_NIL, pmt.init_u8vector(3, [1, 2, 3])),
    "u8": pmt.init_u8vector(2, [1, 255]),
    "s8": pmt.init_s8vector(2, [1, -2]),
    "u16": pmt.init_u16vector(1, [9]),
    "s16": pmt.init_s16vector(2, [1, -2]),
    "u32": pmt.init_u32vector(1, [9]),
    "s32": pmt.init_s32vector(1, [-9]),
    "u64": pmt.init_u64vector(1, [9]),
    "s64": pmt.init_s64vector(1, [-9]),
    "f32": pmt.init_f32vector(2, [1.0, 2.0]),
    "f64": pmt.init_f64vector(1, [9.0]),
    "c32": pmt.init_c32vector(1, [1j]),
    "c64": pmt.init_c64vector(1, [9j]),
}
made = {name: pmt.serialize_str(value).hex() for name, value in cases.items()}
print(json.dumps({"made_by": f"GNU Radio {gr.version()}, {__file__.rpartition('/')[2]}", "cases": made}, indent=1))
