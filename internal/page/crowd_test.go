package page_test

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/overlane/overlane/internal/page"
	"github.com/overlane/overlane/internal/page/simulated"
)

// connect opens connections that stay open on this side until the test ends.
func connect(t *testing.T, url string, number int) (all []net.Conn) {
	t.Helper()
	for range number {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		all = append(all, conn)
	}
	return all
}

// Who is refused keeps no connection, by which he would keep others out.
func TestWhoIsRefusedKeepsNoConnection(t *testing.T) {
	password, err := page.NewPassword("correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	url := serve(t, page.Config{Source: simulated.New(3).Source(), Password: password})
	for status, request := range map[int]string{
		http.StatusUnauthorized:       "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		http.StatusMisdirectedRequest: "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
		http.StatusTooManyRequests:    "GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong\r\n\r\n",
	} {
		waitFor(t, http.StatusText(status), func() bool {
			conn := connect(t, url, 1)[0]
			defer conn.Close()
			if _, err := conn.Write([]byte(request)); err != nil {
				t.Fatal(err)
			}
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if !answer.Close {
				t.Errorf("%s: the connection stays", answer.Status)
			}
			return answer.StatusCode == status
		})
	}
}

// Who opens as many connections as he can, and asks nothing, keeps out nobody at another address, and is served himself once he closes them.
func TestOneAddressKeepsNobodyOut(t *testing.T) {
	url := serve(t, page.Config{Source: simulated.New(3).Source()})
	all := connect(t, url, 300)
	other := clientAt(t, net.IPv4(127, 0, 0, 2))
	other.Timeout = 3 * time.Second // less than silent connections last
	answer, err := other.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	for _, conn := range all {
		conn.Close()
	}
	same := clientAt(t, net.IPv4(127, 0, 0, 1))
	waitFor(t, "an address whose connections are closed is served", func() bool {
		answer, err := same.Get(url)
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
}
