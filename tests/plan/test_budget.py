import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbatch.errors import JobError
from sdbatch.plan.budget import Budget, Speed, bill_of, demand_within


def test_a_bill_is_hours_of_all_workers_and_time_of_a_clock():
    bill = bill_of(100, 7200, 0.0, Speed(images_per_s=0.5), 4, Budget(price_per_hour=2.5))

    assert (bill.gpu_hours, bill.seconds, bill.cost) == (4.0, 3600.0, 10.0)


def test_a_benchmark_counts_work_not_pictures():
    light = bill_of(1, 1, 100.0, Speed(work_per_s=10.0), 1, Budget())
    heavy = bill_of(1, 1, 200.0, Speed(work_per_s=10.0), 1, Budget())

    assert heavy.seconds == 2 * light.seconds == 20.0
    assert light.cost is None


def test_without_a_speed_time_and_money_are_unknown():
    bill = bill_of(10, 10, 1.0, None, 1, Budget(1.0, None, 1.0, 1.0))

    assert (bill.seconds, bill.gpu_hours, bill.cost) == (None, None, None)
    demand_within(bill, Budget(1.0, 10, 1.0, 1.0))


@given(
    images=st.integers(1, 10**7),
    most=st.integers(1, 10**7),
    hours=st.floats(0.01, 1e4),
    price=st.floats(0.01, 100),
)
def test_what_a_refusal_proposes_is_allowed(images, most, hours, price):
    speed = Speed(images_per_s=1.0)
    budget = Budget(price, most, hours, hours * price)
    bill = bill_of(images, images, 0.0, speed, 1, budget)
    try:
        demand_within(bill, budget)
    except JobError as error:
        rows = re.search(r"--limit (\d+)", str(error))
        fewer = int(rows[1]) if rows else 0
        demand_within(bill_of(fewer, fewer, 0.0, speed, 1, budget), budget)
        assert fewer < images
        named = dict(re.findall(r"(--max-\S+) ([\d.]+)", str(error).partition(" allow ")[2]))
        allowed = {flag[2:].replace("-", "_"): float(value) for flag, value in named.items()}
        demand_within(bill, replace(budget, **allowed))
    else:
        assert images <= most


def test_a_refusal_names_every_limit_that_is_passed():
    budget = Budget(2.0, 50, 0.5, 100.0)
    bill = bill_of(100, 100, 0.0, Speed(images_per_s=1 / 36), 1, budget)

    with pytest.raises(JobError) as caught:
        demand_within(bill, budget)

    assert str(caught.value) == (
        "--max-images 50: the run comes to 100 pictures; --max-gpu-hours 0.50: the run comes to "
        "1.00 GPU-hours: draw about 50 rows (--limit 50) or allow --max-images 100 "
        "--max-gpu-hours 1.00"
    )


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (Budget(max_images=0), "--max-images 0: must be above 0"),
        (Budget(max_gpu_hours=float("nan")), "--max-gpu-hours nan"),
        (Budget(price_per_hour=-1.0), "--price-per-hour -1"),
        (Budget(max_cost=5.0), "--price-per-hour 2.5"),
    ],
)
def test_limits_that_mean_nothing_are_refused(budget, words):
    with pytest.raises(JobError, match=words):
        budget.demand_sense()


def test_the_tighter_of_hours_and_money_counts():
    assert Budget(2.0, None, 3.0, 4.0).max_worker_s == 2 * 3600
    assert Budget(2.0, None, 1.0, 4.0).max_worker_s == 3600
    assert Budget(2.0).max_worker_s is None
