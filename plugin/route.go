package plugin

import (
	"net/http"

	api "github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"
	"github.com/docker/go-plugins-helpers/sdk"
)

// handleStatic gives a method of Docker's the same answer, whatever it asks. A pattern with a verb goes before the helper's own.
func handleStatic(h *network.Handler, method string, answer any) {
	h.HandleFunc("POST /"+method, func(w http.ResponseWriter, _ *http.Request) { sdk.EncodeResponse(w, answer, false) })
}

// handleIPAM decodes the requests of a method of the IPAM driver and encodes the answers.
func handleIPAM[Q any](h *network.Handler, method string, do func(*Q) (any, error)) {
	h.HandleFunc("POST /IpamDriver."+method, func(w http.ResponseWriter, r *http.Request) {
		request := new(Q)
		if err := sdk.DecodeRequest(w, r, request); err != nil {
			return
		}
		answer, err := do(request)
		if err != nil {
			sdk.EncodeResponse(w, api.NewErrorResponse(err.Error()), true)
			return
		}
		sdk.EncodeResponse(w, answer, false)
	})
}
