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
names=(defaults backup-pvc backup-s3 prometheus-rules migrations-via-hook all-on)
flags=("" "$backup" "$s3" "$rules" "$hook" "$backup $rules $hook")
for index in "${!names[@]}"; do
  # a render that fails leaves an empty file, which is wrong too
  # shellcheck disable=SC2086 # flags are words
  "$helm" template certctl "$chart" --namespace certctl ${flags[index]} >"$work/${names[index]}.yaml" || true
done
wrong=0
"$python" scripts/validate-manifests "$work"/*.yaml || wrong=$?
[[ $wrong -le ${#names[@]} ]] || wrong=${#names[@]}
echo "helm-templates-lint: $((${#names[@]} - wrong))/${#names[@]} renders valid"
[[ $wrong -eq 0 ]]
