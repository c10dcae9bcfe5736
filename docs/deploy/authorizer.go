// go run authorizer.go
package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

var key = os.Getenv("AUTHORIZER_KEY") // without it signatures are not checked

func isSigned(header string, body []byte) bool {
	parts := strings.Split(header, ",")
	t := strings.TrimPrefix(parts[0], "t=")
	sent, err := strconv.ParseInt(t, 10, 64)
	if err != nil || time.Since(time.Unix(sent, 0)).Abs() > time.Minute {
		return false
	}
	mac := hmac.New(sha256.New, []byte(key))
	fmt.Fprintf(mac, "%s.%s", t, body)
	expected := fmt.Appendf(nil, "v1=%x", mac.Sum(nil))
	for _, part := range parts[1:] {
		if hmac.Equal([]byte(part), expected) {
			return true
		}
	}
	return false
}

type question struct {
	Command string
	Args    struct {
		Channel string
	}
	Connection struct {
		Query map[string][]string
	}
}

type answer map[string]any

func decide(q question) answer {
	token := append(q.Connection.Query["token"], "")[0]
	user, known := map[string]int{"abc": 42}[token]
	channels := []string{"hello", fmt.Sprintf("user:%d", user)}
	switch {
	case !known:
		return answer{"status": 403, "message": "unknown token"}
	case q.Command == "connect" || q.Command == "refresh":
		allow := answer{"join": channels, "broadcast": channels} // wsify need not ask about these
		return answer{"status": 200, "user": user, "allow": allow, "expires_in": 3600}
	case slices.Contains(channels, q.Args.Channel):
		return answer{"status": 200}
	}
	return answer{"status": 403, "message": fmt.Sprintf("not for user %d", user)}
}

func authorize(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || key != "" && !isSigned(r.Header.Get("X-Wsify-Signature"), body) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.Header().Set("Content-Type", "application/vnd.wsify+json")
	if bytes.HasPrefix(body, []byte("[")) { // with --authorizer-batch
		var questions []question
		if json.Unmarshal(body, &questions) != nil {
			w.WriteHeader(http.StatusInternalServerError) // see docs/authorizer.md#batches
			return
		}
		answers := make([]answer, len(questions))
		for i, q := range questions {
			answers[i] = decide(q)
		}
		json.NewEncoder(w).Encode(answers)
		return
	}
	var q question
	if json.Unmarshal(body, &q) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	a := decide(q)
	w.WriteHeader(a["status"].(int))
	json.NewEncoder(w).Encode(a)
}

func main() {
	log.Fatal(http.ListenAndServe("127.0.0.1:8000", http.HandlerFunc(authorize)))
}
