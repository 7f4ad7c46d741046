"""The price of each sale with tax: a datum is one record."""

import csv
import io

import paddock

TAX = 1.2


@paddock.pipeline(input=paddock.glob("sales", "/*.csv", split="csv", name="sale"), name="price")
def price(sale: str) -> str:
    """One record with its price."""
    return "".join(priced(sale))


@paddock.pipeline(input=paddock.glob("sales", "/*.csv", split="csv:1000", name="sales"), name="prices")
def prices(sales: str) -> str:
    """A thousand records with their prices."""
    return "".join(priced(sales))


def priced(text: str) -> list[str]:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    return [f"{row['id']},{float(row['amount']) * int(row['pieces']) * TAX:.2f}\n" for row in rows]
