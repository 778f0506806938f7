package server

import (
	"bytes"
	"encoding/json"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

// upgradeMAC moves the MAC address, which until 1.51 was a property of the
// container, to the endpoint of its network. From 1.44 on endpoints had one of
// their own, and the old place got a warning.
func upgradeMAC(req *container.CreateRequest, body []byte, v api.Version) (warning string, err error) {
	if !v.Before(52) {
		return "", nil
	}
	mac, err := containerMAC(body)
	if err != nil || len(mac) == 0 {
		return "", err
	}
	mode := req.HostConfig.NetworkMode
	hasAddress := mode == network.NetworkBridge || mode.IsUserDefined()
	if v.Before(44) {
		if !hasAddress {
			return "", errdefs.New(errdefs.InvalidArgument, "conflicting options: mac-address and the network mode")
		}
		theEndpoint(req).MacAddress = mac
		return "", nil
	}
	if hasAddress {
		if err := setMAC(req, mac); err != nil {
			return "", err
		}
	}
	return "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.", nil
}

// containerMAC reads the field that the request's type does not have any more.
func containerMAC(body []byte) (network.HardwareAddr, error) {
	if !bytes.Contains(body, []byte(`"MacAddress"`)) {
		return nil, nil
	}
	var old struct{ MacAddress network.HardwareAddr }
	if err := json.Unmarshal(body, &old); err != nil {
		return nil, errdefs.New(errdefs.InvalidArgument, "invalid JSON: %w", err)
	}
	return old.MacAddress, nil
}

// theEndpoint returns the only endpoint of a request of the time when there
// was one at most, whatever it is called.
func theEndpoint(req *container.CreateRequest) *network.EndpointSettings {
	for _, e := range endpointsOf(req) {
		if e != nil {
			return e
		}
	}
	return addEndpoint(req)
}

func endpointsOf(req *container.CreateRequest) map[string]*network.EndpointSettings {
	if req.NetworkingConfig == nil {
		return nil
	}
	return req.NetworkingConfig.EndpointsConfig
}

// addEndpoint makes an endpoint on the network of the network mode.
func addEndpoint(req *container.CreateRequest) *network.EndpointSettings {
	if req.NetworkingConfig == nil {
		req.NetworkingConfig = &network.NetworkingConfig{}
	}
	if req.NetworkingConfig.EndpointsConfig == nil {
		req.NetworkingConfig.EndpointsConfig = map[string]*network.EndpointSettings{}
	}
	e := &network.EndpointSettings{}
	req.NetworkingConfig.EndpointsConfig[string(req.HostConfig.NetworkMode)] = e
	return e
}

// setMAC gives the main network's endpoint the address, which may be there
// already.
func setMAC(req *container.CreateRequest, mac network.HardwareAddr) error {
	name := string(req.HostConfig.NetworkMode)
	e, ok := endpointsOf(req)[name]
	if !ok && len(endpointsOf(req)) > 0 {
		// Networks have names, ids and short ids: another key may mean the same
		// network, and a second endpoint there would be wrong.
		return errdefs.New(errdefs.InvalidArgument, "unable to migrate container-wide MAC address to a specific network: HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks")
	}
	if e == nil {
		e = addEndpoint(req)
	}
	if len(e.MacAddress) > 0 && e.MacAddress.String() != mac.String() {
		return errdefs.New(errdefs.InvalidArgument, "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty")
	}
	e.MacAddress = mac
	return nil
}
