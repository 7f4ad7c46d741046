"""Write a table of sales to standard output: sales.py FIRST LAST

The numbers are made up, the same on every run. The header is written where FIRST is 1.
"""

import sys

KINDS = ("book", "cup", "lamp", "rope", "chair")

first, last = map(int, sys.argv[1:])
write = sys.stdout.write
if first == 1:
    write("id,kind,amount,pieces,note\n")
for number in range(first, last + 1):
    kind = KINDS[number * 7919 % 5]
    note = f'"{kind}, no. {number * number % 9973}"'
    write(f"{number},{kind},{number * 31 % 9973 / 100:.2f},{number % 7 + 1},{note}\n")
