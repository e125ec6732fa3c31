"""A line of the benchmark's report: NAME RESULT [RESULT of the yardstick], results as JSON."""

import json
import sys

name, line, *yardstick = sys.argv[1], *map(json.loads, sys.argv[2:])
text = (
    f"{name:48}{line['rate']:>9,.0f}/s  p50 {line['p50_us']:>6} us  p99 {line['p99_us']:>7} us"
    f"  cpu {line['cpu_us']:>6,.0f} us  rss {line['rss_mb']} MB  failed {line['failed']}"
)
if yardstick:
    text += f"  = {100 * line['rate'] / yardstick[0]['rate']:.0f} % of bare"
if line["items_rate"] != line["rate"]:
    text += f"  {line['items_rate']:,.0f} resources/s"
print(text)
