// go run authorizer.go
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

var key = os.Getenv("AUTHORIZER_KEY") // without it every question is believed

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

func authorize(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || key != "" && !isSigned(r.Header.Get("X-Wsify-Signature"), body) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var q question
	if err := json.Unmarshal(body, &q); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	token := append(q.Connection.Query["token"], "")[0]
	user, known := map[string]int{"abc": 42}[token]
	channel := q.Args.Channel
	if !known || q.Command != "connect" && channel != "hello" && channel != fmt.Sprintf("user:%d", user) {
		w.WriteHeader(http.StatusForbidden)
	}
}

func main() {
	log.Fatal(http.ListenAndServe("127.0.0.1:8000", http.HandlerFunc(authorize)))
}
