"""Convert prices of other currencies to US dollars, by rates that stand here: no launch waits for a bank.

The rates are approximate ones of November 2025, rounded. They decide when a budget in dollars is used, so a job file
can give its own: `price: {hourly: 1.98, currency: CNY, usd: 0.1405}`.
"""

from __future__ import annotations

AS_OF = "2025-11"

USD_PER_UNIT = {
    "AUD": 0.65,
    "BRL": 0.187,
    "CAD": 0.71,
    "CHF": 1.24,
    "CNY": 0.141,
    "EUR": 1.16,
    "GBP": 1.31,
    "HKD": 0.1285,
    "INR": 0.0113,
    "JPY": 0.0065,
    "KRW": 0.00069,
    "PLN": 0.273,
    "SEK": 0.105,
    "SGD": 0.77,
    "TWD": 0.032,
    "USD": 1.0,
}
"""US dollars for one unit of a currency, by its ISO 4217 code."""
