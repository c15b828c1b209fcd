from hypothesis import given
from hypothesis import strategies as st

from sdbatch.plan.seeds import BY_CONTENT, BY_ID, BY_POSITION, derived_seed, reseeded, seed_of

KEYS = st.tuples(
    st.integers(0, 2**63 - 1),
    st.sampled_from([BY_ID, BY_CONTENT, BY_POSITION]),
    st.text(max_size=8),
    st.integers(0, 99),
    st.integers(0, 999),
)


def test_derived_seeds_are_the_same_for_ever():
    seeds = [derived_seed(0, BY_ID, "fox", 0, index) for index in range(3)]

    assert seeds == [636753478, 268424764, 2007972553]
    assert derived_seed(7, BY_CONTENT, "ab" * 16, 2, 0) == 1261174222


@given(key=KEYS)
def test_derived_seeds_are_below_two_to_the_32(key):
    assert 0 <= derived_seed(*key) < 2**32


@given(keys=st.sets(KEYS, min_size=2, max_size=2))
def test_every_part_of_the_key_counts(keys):
    one, two = keys

    assert derived_seed(*one) != derived_seed(*two)


def test_a_stated_seed_counts_up_with_the_picture():
    assert [seed_of(40, index) for index in range(3)] == [40, 41, 42]


def test_other_seeds_follow_from_the_planned_one_for_ever():
    assert [reseeded(636753478, number) for number in range(3)] == [
        157563522,
        2041266531,
        4226306451,
    ]


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_other_seeds_stay_below_two_to_the_32(seed, number):
    assert 0 <= reseeded(seed, number) < 2**32
    assert reseeded(seed, number) == reseeded(seed, number)
