"""Of an aarch64 disassembly on standard input: the loops of the tile kernels that multiply and add most.

For each of the ten with the most `fmla` of four lanes: how many instructions the loop has for each of them. 1.0 would be nothing but
multiply-adds.
"""

import re
import sys


def loops(instructions):
    """Innermost loops: from the target of a branch back to it, without a branch back in between."""
    places = {address: at for at, (address, _, _) in enumerate(instructions)}
    last = -1
    for at, (_, name, operands) in enumerate(instructions):
        target = re.search(r"\b([0-9a-f]+) <", operands)
        if name.startswith(("b.", "cbnz", "cbz", "tbnz", "tbz")) and target:
            start = places.get(int(target.group(1), 16))
            if start is not None and last < start <= at:
                yield instructions[start : at + 1]
            if start is not None and start <= at:
                last = at


def report(name, instructions, found):
    if "tile_fn" not in name:
        return
    for loop in loops(instructions):
        fused = sum(1 for _, op, operands in loop if op == "fmla" and ".4s" in operands)
        apart = sum(1 for _, op, operands in loop if op in ("fmul", "fadd") and ".4s" in operands)
        if fused or apart:
            found.append((fused, apart, len(loop)))


def main():
    found, name, instructions = [], "", []
    for line in sys.stdin:
        head = re.match(r"^[0-9a-f]+ <(.*)>:$", line)
        if head:
            report(name, instructions, found)
            name, instructions = head.group(1), []
            continue
        body = re.match(r"^\s+([0-9a-f]+):\s+(\S+)\s*(.*)$", line)
        if body:
            instructions.append((int(body.group(1), 16), body.group(2), body.group(3)))
    report(name, instructions, found)
    if not found:
        sys.exit("no loop of a tile kernel was found")
    print("fmla  fmul/fadd  instructions  for each fmla")
    for fused, apart, length in sorted(set(found), reverse=True)[:10]:
        print(f"{fused:4}  {apart:9}  {length:12}  {length / max(fused, 1):13.2f}")


main()
