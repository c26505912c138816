#!/usr/bin/env bash
# What people write before that: curl, jq and diff, an execution after the other.
#
#     curl_jq.sh URL POLLS
set -euo pipefail
url=$1/v2/workflow/executions/get
seen=$(mktemp -d)
trap 'rm -r "$seen"' EXIT
for ((n = 0; n < $2; n++)); do
    id=$(printf 'exec_1777374504255_%08d' $((n % 10)))
    curl --silent --fail --header 'content-type: application/json' --header 'x-velt-api-key: key' \
        --header 'x-velt-auth-token: token' --data "{\"data\":{\"executionId\":\"$id\"}}" "$url" |
        jq --raw-output '.result | .status, (.steps[] | .stepId + " " + .status)' >"$seen/new"
    if [[ -e $seen/$id ]]; then diff "$seen/$id" "$seen/new" || true; fi
    mv "$seen/new" "$seen/$id"
done
