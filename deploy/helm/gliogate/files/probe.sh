# Whether Triton makes progress: what Kubernetes asks at the start, for readiness and for liveness. How often in a row it may
# fail is Kubernetes' to count. It says what is wrong, and that is in the pod's events.
#   sh -uc SCRIPT gliogate-probe startup|ready|live HTTP_URL METRICS_URL SECONDS FIRST_ANSWER_S
mode=$1 http=$2 metrics=$3 seconds=$4 first_answer=$5
folder=${TMPDIR:-/tmp} port=${http##*:}
state="$folder/gliogate-probe-$mode-$port" failures="$folder/gliogate-probe-failures-$port"
# So many requests that failed, over so many seconds, and none that was answered are no chance, and hardly one caller's input.
least_failures=10 failing_for=8
# After so many seconds nothing follows from what was seen any more.
stale_after=60

fail() {
  printf '%.400s\n' "$1"
  exit 1
}

tell_time() {
  read -r now rest < /proc/uptime
  now=${now%%.*}
}

# Sets limit to how long a step may take: what is left, without the seconds that are for later steps, at most so many. All
# ends before Kubernetes ends it, or nobody would learn the reason: LATER MOST.
tell_limit() {
  tell_time
  left=$((end - now - $1)) limit=$2
  test "$left" -ge "$limit" || limit=$left
  test "$limit" -ge 1 || limit=1
}

fetch() {
  curl --silent --noproxy '*' --max-time "$limit" "$@"
}

# Sets answered, probed and failed: how many requests were answered, how many of the probes' own, and how many failed inside
# the server. Where Triton does not tell, answered is empty and the others stay. What callers did wrong or gave up is neither,
# nor is what a full queue refused.
look() {
  answered=''
  set -- $(fetch "$metrics" | grep -E '^(gliogate_requests_total|nv_inference_request_failure)\{')
  test $# -ge 2 || return 0
  probed=0 failed=0
  while test $# -ge 2; do
    case $1 in
      gliogate_*'"answered"'*) answered=$((${answered:-0} + ${2%%.*})) ;;
      gliogate_*'"probe"'*) probed=$((probed + ${2%%.*})) ;;
      gliogate_*'"failed"'* | gliogate_*'"unavailable"'*) failed=$((failed + ${2%%.*})) ;;
      nv_*'"brain_tumor"'*'"BACKEND"'* | nv_*'"brain_tumor"'*'"OTHER"'*) failed=$((failed + ${2%%.*})) ;;
    esac
    shift 2
  done
}

# Sets kept to the numbers in a file, or to nothing if another start of the server left them, if that is long ago (what could
# not be replaced is still there), or if they are no numbers: FILE SECONDS.
recall() {
  kept='' stale=$2
  test ! -r "$1" || read -r kept < "$1"
  case $kept in *[!0-9\ ]*) kept='' ;; esac
  set -- $kept
  if test $# -lt 2 || test "$1" != "$server" || test $((now - $2)) -gt "$stale"; then
    kept=''
  fi
}

# FILE NUMBERS; one that may be empty is the last.
keep() {
  if ! { printf '%s\n' "$server $now $2" > "$1.new" && mv "$1.new" "$1"; } 2> /dev/null; then
    rm -f "$1.new" "$1" 2> /dev/null
  fi
}

# Sets before_failed, before_probed and before_answered to what this probe saw the last time; the last is empty if it is not
# known.
recall_counts() {
  recall "$state" "$stale_after"
  set -- $kept
  before_failed=${3:-0} before_probed=${4:-0} before_answered=${5:-}
}

# Sets first_seen, last_seen and count to when requests were first and last seen to fail while none was answered, and from
# which count of failures on; 0 is never. The probes' own answers are none: what a black slice tells is nobody's.
recall_failures() {
  recall "$failures" "$stale_after"
  set -- $kept
  first_seen=${3:-0} last_seen=${4:-0} count=${5:-0}
}

# Takes note of them. That is for the readiness probe alone: a pod that it takes out gets no more that could fail.
note_failures() {
  if test -n "$answered" && test -n "$before_answered"; then
    if test "$answered" -ne "$before_answered"; then
      first_seen=0
    elif test "$failed" -gt "$before_failed"; then
      test "$first_seen" -ne 0 || first_seen=$now count=$before_failed
      last_seen=$now
    elif ! nothing_but_failures && test $((now - last_seen)) -gt "$stale_after"; then
      first_seen=0
    fi
  fi
  keep "$failures" "$first_seen $last_seen $count"
}

# Once it is so, it stays so until a request is answered.
nothing_but_failures() {
  test "$first_seen" -ne 0 && test $((last_seen - first_seen)) -ge "$failing_for" &&
    test $((failed - count)) -ge "$least_failures"
}

# Whether more was answered, to anybody, than at another time: "" is a number that is not known. ANSWERED PROBED
has_grown() {
  test -n "$1" && test -n "$answered" && test $((answered + probed)) -gt $(($1 + $2))
}

# Has a model answer a black slice: MODEL OUTPUT FURTHER_OF_OUTPUT PARAMETERS. If it does not, reason says why. By its id the
# gate knows a probe's request, and counts it by itself.
ask() {
  request='{"id": "gliogate-probe", "inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 256, 256, 3],'
  request="$request \"parameters\": {\"binary_data_size\": 196608}}], \"outputs\": [{\"name\": \"$2\"$3}],"
  request="$request \"parameters\": {$4}}"
  answer=$(
    { printf %s "$request"; head -c 196608 /dev/zero; } | fetch --header Expect: \
      --header 'Content-Type: application/octet-stream' --header "Inference-Header-Content-Length: ${#request}" \
      --data-binary @- --write-out ' %{http_code}' "$http/v2/models/$1/infer"
  )
  exit_code=$? code=${answer##* }
  case $exit_code in
    0) reason="$1 answers a slice with HTTP $code: ${answer% *}" ;;
    28) reason="$1 has not answered a slice for $limit s" ;;
    *) reason="$1 cannot be asked, exit code $exit_code of curl" ;;
  esac
  test "$exit_code" = 0 && test "$code" = 200
}

# Has both models answer, so many times in turn, if there is time. A network comes before the gate, for what the gate answers
# counts as progress, and is asked by itself, for what the gate hands on counts as a tumor found. Of the mask only the largest
# pixel is sent. The gate's queue is jumped.
ask_each() {
  turns=$1
  while test "$turns" -gt 0; do
    tell_limit 2 "$seconds"
    # Those who were asked have answered.
    if test "$turns" -lt "$1" && test "$left" -lt 1; then
      return 0
    fi
    ask tumor_segmenter mask_probability ', "parameters": {"classification": 1}' '' || return 1
    tell_limit 2 "$seconds"
    ask brain_tumor tumor_probability '' "\"priority\": 1, \"timeout\": ${limit}000000" || return 1
    turns=$((turns - 1))
  done
}

# Has a slice go all the way that one with tumor goes, once, so that no caller is the first: from the gate to both networks, and
# back by the memory that they share.
ask_for_all() {
  tell_limit 0 "$seconds"
  ask brain_tumor mask_probability ', "parameters": {"classification": 1}}, {"name": "tumor_probability"' \
    "\"gate\": \"always\", \"priority\": 1, \"timeout\": ${limit}000000"
}

tell_time
# A second for the start of what is run here.
end=$((now + seconds - 1))
# When the container was started, in hundredths of a second: /tmp outlives it, what Triton counts does not.
read -r stat < /proc/1/stat
set -- ${stat##*) }
server=${20}

# Triton takes no notice of a Python process that is gone (https://github.com/triton-inference-server/server/issues/8604): the
# dead one stays, a zombie (Z), child of Triton (1). Others may answer in its place, so progress alone would not tell. The same
# goes for one that is stopped (T).
if grep -qs '^[0-9]* (triton_python_b) Z 1 ' /proc/[0-9]*/stat; then
  fail "the process of a Python model has died"
fi
if grep -qs '^[0-9]* (triton_python_b) T 1 ' /proc/[0-9]*/stat; then
  fail "the process of a Python model is stopped"
fi

if test "$mode" != live; then
  tell_limit 0 2
  fetch --fail --output /dev/null "$http/v2/health/ready"
  exit_code=$?
  case $exit_code in
    0) reason='' ;;
    22) reason="Triton is not ready: not all models are loaded" ;;
    28) reason="Triton has not answered for $limit s" ;;
    *) reason="Triton cannot be asked, exit code $exit_code of curl" ;;
  esac
  if test -n "$reason"; then
    test "$mode" = ready || rm -f "$state" 2> /dev/null
    fail "$reason"
  fi
fi

if test "$mode" = startup; then
  if ask_each 1 && ask_for_all; then
    rm -f "$state" 2> /dev/null
    exit 0
  fi
  # An engine may be built for the first slice; when that has taken too long, it is for the other probes to say.
  recall "$state" "$now"
  set -- $kept
  tell_time
  since=${3:-$now}
  keep "$state" "$since"
  # Where nothing can be kept, the only start that is known is the container's.
  test -r "$state" || since=$((server / 100))
  test $((now - since)) -lt "$first_answer" || exit 0
  fail "$reason; since the models were loaded it has been $((now - since)) s"
fi

recall_counts
recall_failures
failed=$before_failed probed=$before_probed
tell_limit 3 2
look
test "$mode" = live || note_failures
keep "$state" "$failed $probed $answered"
if nothing_but_failures; then
  fail "$((failed - count)) requests have failed inside the server within $((now - first_seen)) s, and none was answered"
fi
turns=1
if has_grown "$before_answered" "$before_probed"; then
  # Something was answered, which is all that is asked for, if nothing has failed. If something has, it may be one process of
  # several: that is not found with one slice.
  if test "$failed" -le "$before_failed"; then
    exit 0
  fi
  turns=3
fi
failed_at_first=$failed
test -n "$before_answered" || before_answered=$answered before_probed=$probed
ask_each "$turns" && exit 0

# Nothing but other requests may be in the way. The gate tells within a moment what it has counted.
tell_limit 0 2
if test "$left" -ge 1 && { test "$exit_code" = 28 || test "$code" = 503; }; then
  if test "$exit_code" != 28 && test "$left" -ge 2; then
    sleep 1
    tell_limit 0 2
  fi
  look
  if has_grown "$before_answered" "$before_probed" && test "$failed" -le "$failed_at_first"; then
    exit 0
  fi
fi
fail "$reason"
