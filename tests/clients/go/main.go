// Go's gorilla/websocket through wsify, with compression. Takes the URL, prints one JSON object with what it saw.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/gorilla/websocket"
)

func main() {
	dialer := websocket.Dialer{EnableCompression: true}
	ws, response, err := dialer.Dial(os.Args[1], nil)
	if err != nil {
		log.Fatal(err)
	}
	say := func(message string) string {
		if err := ws.WriteMessage(websocket.TextMessage, []byte(message)); err != nil {
			log.Fatal(err)
		}
		_, heard, err := ws.ReadMessage()
		if err != nil {
			log.Fatal(err)
		}
		return string(heard)
	}
	joined := say(`{"command":"join","args":{"channel":"go"},"id":1}`)
	same := true
	for n := range 3 {
		content := `["` + strings.Repeat(fmt.Sprintf("é%d ", n), 500) + `"]`
		same = same && say(`{"command":"broadcast","args":{"channel":"go","content":`+content+`}}`) == content
	}
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"extensions": response.Header.Get("Sec-WebSocket-Extensions"), "joined": joined, "same": same,
	})
}
