#!/usr/bin/env bash
# The chart: helm lint without values, then six renders, each valid by Kubernetes' own schemas.
# Without helm it fails, in CI and elsewhere: scripts/install-helm builds one where none is installed.
set -euo pipefail
cd "$(dirname "$0")/../.."
chart=deploy/helm/certctl
python=.venv/bin/python
[[ -x $python ]] || python=python3
helm=$(scripts/install-helm) || { echo "helm-templates-lint: no helm, and none could be built" >&2; exit 1; }

"$helm" lint "$chart" --strict --quiet
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
backup="--set backup.enabled=true"
s3="$backup --set backup.sink=s3 --set backup.s3.bucket=certctl-backups"
rules="--set monitoring.prometheusRules.enabled=true"
hook="--set migrations.viaHook=true"
renders=("" "$backup" "$s3" "$rules" "$hook" "$backup $rules $hook")
good=0
for flags in "${renders[@]}"; do
  # shellcheck disable=SC2086 # flags are words
  if "$helm" template certctl "$chart" --namespace certctl $flags >"$work/render.yaml" &&
    "$python" scripts/validate-manifests "$work/render.yaml"; then
    good=$((good + 1))
  else
    echo "helm-templates-lint: this render is wrong: ${flags:-defaults}" >&2
  fi
done
echo "helm-templates-lint: $good/${#renders[@]} renders valid"
[[ $good -eq ${#renders[@]} ]]
