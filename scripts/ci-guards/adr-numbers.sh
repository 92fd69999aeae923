#!/bin/sh
# Every decision record has a number of its own, the one that its first line says.
set -eu
cd "$(dirname "$0")/../.."
bad=0
seen=""
for file in docs/adr/[0-9]*.md; do
  number=$(basename "$file" | cut -c1-4)
  case " $seen " in *" $number "*) echo "adr-numbers: $number is given twice, once to $file" >&2; bad=1 ;; esac
  seen="$seen $number"
  said=$(head -n 1 "$file" | sed -n 's/^# \(ADR \)\{0,1\}0*\([0-9][0-9]*\)[.: ].*/\2/p')
  if [ "$said" != "$(echo "$number" | sed 's/^0*//')" ]; then
    echo "adr-numbers: $file begins with: $(head -n 1 "$file")" >&2; bad=1
  fi
done
[ "$bad" -eq 0 ] || exit 1
echo "adr-numbers: $(ls docs/adr/[0-9]*.md | wc -l) decisions"
