#!/usr/bin/env python3
"""Prints why tests were skipped, one line per reason, from a .trx file of "dotnet test"."""
import collections
import sys
import xml.etree.ElementTree as tree

NAMESPACE = "{http://microsoft.com/schemas/VisualStudio/TeamTest/2010}"
reasons = collections.Counter()
for result in tree.parse(sys.argv[1]).iter(NAMESPACE + "UnitTestResult"):
    if result.get("outcome") == "NotExecuted":
        message = result.find(f".//{NAMESPACE}Message")
        reasons[(message.text if message is not None else "no reason given").strip().split("\n")[0]] += 1
for reason, number in reasons.most_common():
    print(f"skipped {number}: {reason}")
